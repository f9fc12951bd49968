"""One endpoint three ways: synchronous, asynchronous, and asynchronous with a wait for the effect."""
