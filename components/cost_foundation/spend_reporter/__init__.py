"""The code of the spend report's Lambda; only handler.py is deployed."""
