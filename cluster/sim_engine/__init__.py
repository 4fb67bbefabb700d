"""A simulated vLLM engine: `model.py` computes it in virtual time, `server.py` serves it over HTTP as vLLM would."""
