"""What the operator's application takes and answers, as models that it shares with its clients."""
