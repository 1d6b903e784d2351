"""Problems: reading data sets, generating samples, drawing batches in the domains' proportions."""
