"""Measures Treadle as a whole, as real processes, against bare LangGraph on the same machine in the same run."""
