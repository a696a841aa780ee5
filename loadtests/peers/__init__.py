"""Other servers beside the gateway: the same model, the same body, the same load, taking turns.

Rules: each peer has an environment of its own, pinned by hash in `locks/`; its server is what
its documentation shows first, with one worker, logging off and nothing recorded. The gateway
takes part twice, as it is meant to be used: with its journal, and with a challenger in shadow
besides. What is counted is the CPU of every process that a server consists of.
"""
