//go:build embedinit

package initbin

import _ "embed"

// embedded is the init program, and embeddedSum is the program's SHA-256 in hexadecimal. The
// command "make build" creates both files.
var (
	//go:embed init.bin
	embedded string
	//go:embed init.sum
	embeddedSum string
)
