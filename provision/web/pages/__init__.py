"""The web page: what operators do with a browser, over the same service as the API."""
