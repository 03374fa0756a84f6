"""Arms: what an evaluation compares, and the recipes and servers behind them."""
