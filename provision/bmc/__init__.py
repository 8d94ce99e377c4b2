"""BMCs by Redfish (DSP0266): how this program reaches the management processor of a machine."""
