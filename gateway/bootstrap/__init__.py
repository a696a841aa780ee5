"""The composition root: the only package that names concrete adapters and puts them together.

`prepare` brings the state up before anything runs, `worker` is one worker's application,
`evaluator` the Evaluator's process. They are apart because a worker
must not carry what only the Evaluator needs (DuckDB, Arrow, the tracing SDK: 130 MB).
"""
