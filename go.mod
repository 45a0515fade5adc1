module minivmm

go 1.26
