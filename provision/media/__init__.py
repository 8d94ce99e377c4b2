"""Boot media as patch plans over a base that is built once."""
