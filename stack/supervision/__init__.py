"""The whole desk on one machine: started in the order of needs, asked, restarted, ended, and told of."""
