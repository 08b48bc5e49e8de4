"""The storage side: runs, traces, vectors, facts and the ledger in one DuckDB file; FAISS is derived from it."""
