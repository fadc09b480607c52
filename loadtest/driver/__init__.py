"""The open-model driver of a desk: a sender and a reader, each a process of its own."""
