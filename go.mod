module minivmm

go 1.26.0

require (
	github.com/cavaliergopher/cpio v1.0.1
	github.com/klauspost/compress v1.20.3
	github.com/therootcompany/xz v1.0.1
	golang.org/x/sys v0.49.0
)

require golang.org/x/term v0.47.0
