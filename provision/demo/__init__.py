"""The virtual laboratory: LANs, machines with real firmware and a small base image, for the tour and for the tests."""
