"""More than one engine: the pool over many workers, here or across machines by Ray.

Nothing here imports Ray but `bridge.py` and `actor.py`, which run in processes of their own: a
driver whose head restarts is aborted by Ray, and the product must outlive that.
"""
