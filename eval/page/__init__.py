"""One HTML page a run: the verdict, the figures and the sounds behind them."""
