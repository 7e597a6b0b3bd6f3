"""The one root: where each artifact is, how it is made complete or not at all, and who may write."""
