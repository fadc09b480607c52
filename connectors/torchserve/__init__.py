"""TorchServe: inference over gRPC, management over HTTP, and the tokens that both want."""
