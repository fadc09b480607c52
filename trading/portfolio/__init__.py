"""The book of one partition: positions, working orders, cash, marks."""
