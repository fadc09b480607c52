"""What of `deploy/` is made from the code: scraping, alerts, boards, a cluster's topics, users and permissions."""
