"""ONNX, TorchScript, config.pbtxt: written, read, checked."""
