"""The walls around a child process: which there are, what a child sees behind them, and the proof that they hold."""
