"""LoRA adapters as the peft library saves them, merged into the checkpoint that they change."""
