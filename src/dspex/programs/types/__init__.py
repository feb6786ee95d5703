"""Types of fields that are more than a value: media, earlier turns, code, tool calls; one file each."""
