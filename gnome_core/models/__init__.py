"""Networks: structural GNN, CHGNet."""
