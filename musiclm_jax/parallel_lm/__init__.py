"""The parallel decoder: semantic tokens -> all acoustic codes in few passes."""
