"""What has gone wrong for people with systems like this one, each kind with the tests that reproduce it."""
