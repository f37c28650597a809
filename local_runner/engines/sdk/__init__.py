"""The SDK's stock local mode, the reference of the other engines."""
