"""Events to tokens or text, and back.

    event rows -> Events (one array per field) -> encoder -> EncodedEvents (runs of piece codes) -> ids or text by table

An encoder is found by name in `registry.py`.
"""
