//go:build embedinit

package initbin

import _ "embed"

// embedded is the program, and embeddedSum its SHA-256 in hexadecimal. make build creates both.
var (
	//go:embed init.bin
	embedded string
	//go:embed init.sum
	embeddedSum string
)
