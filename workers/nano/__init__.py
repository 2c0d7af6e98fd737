"""nano: the small gpt-oss-architecture reader that ships with the project, and how it is made.

`nano.gguf` needs only llama.cpp. Everything else here makes that file again: tokenizer, data,
training, MXFP4 export and evaluation. Training needs the `train` extra (PyTorch).
"""
