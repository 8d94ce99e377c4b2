"""The operator's application: everything that the command line does, behind one authentication."""
