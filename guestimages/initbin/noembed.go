//go:build !embedinit

package initbin

var (
	embedded    string
	embeddedSum string
)
