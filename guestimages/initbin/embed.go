//go:build embedinit

package initbin

import _ "embed"

// embedded is the program, embeddedSum its SHA-256 in hexadecimal. The Makefile creates both files.
var (
	//go:embed init.bin
	embedded string
	//go:embed init.sum
	embeddedSum string
)
