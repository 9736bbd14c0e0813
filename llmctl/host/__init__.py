"""The only code that runs commands, touches a box's files, or opens its ports."""
