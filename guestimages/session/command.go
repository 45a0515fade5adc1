package session

import (
	"io"
	"os"

	"minivmm/guestimages/plan"
)

// Command is what to run in the machine.
type Command struct {
	Argv   []string
	Env    []string // KEY=value
	Dir    string   // working directory
	Shares []plan.Share
	Stdin  io.Reader // nil: empty. A Read under way when Run returns is left to end by itself
	Stdout io.Writer // nil: nowhere. One that does not take its bytes holds the command up, and nothing else
	Stderr io.Writer

	Terminal *plan.Terminal       // a pseudo terminal instead of pipes; Stderr then stays silent
	Resize   <-chan plan.Terminal // new sizes of the terminal
	Signals  <-chan os.Signal     // sent on to the command

	Go func(f func()) // starts each goroutine of the session; nil: the go statement
}
