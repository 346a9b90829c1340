"""Chats as others write them down: pure readers and writers, one line at a time."""
