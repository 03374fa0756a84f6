"""The scripted expert: it knows where everything is and solves tasks as a demonstrator would."""
