"""Plain chat: one turn of a conversation, with or without documents, routed and accounted for."""
