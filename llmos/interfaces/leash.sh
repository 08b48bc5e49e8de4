#!/bin/sh
# Starts the Claude CLI so that the kernel ends it with the process that started it: killed, we can't stop it any more,
# and it would go on asking a model at our cost. LLMOS_CLAUDE_CLI is the binary; setpriv is from util-linux.
exec setpriv --pdeathsig KILL -- "$LLMOS_CLAUDE_CLI" "$@"
