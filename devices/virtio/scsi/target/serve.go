package target

import "errors"

// command is a row of the command table.
type command struct {
	name   string
	opcode byte
	action int // the service action; -1: the opcode has none
	usage  string
	props  prop
	do     func(c *call) error
}

// prop is a set of properties of a command that are checked before the command runs.
type prop int

const (
	always  prop = 1 << iota // is served even if a unit attention is pending or the logical unit does not exist
	medium                   // requires a started unit
	writes                   // is refused if the unit is write protected
	waiting                  // usually waits for the host
	sizing                   // reports the size, which is read from the store first
	freeing                  // requires a unit that can free blocks
)

// byOpcode is the table of commands by opcode. An opcode with service actions has several rows.
var byOpcode [256][]*command

func init() { // an initializer would be a cycle: commands refers to byOpcode through reportOpcodes
	for i := range commands {
		row := &commands[i]
		byOpcode[row.opcode] = append(byOpcode[row.opcode], row)
	}
}

// find returns the command with the given opcode and service action. If there is none, it returns a
// command without properties, and an error that holds the sense data for the guest.
func find(opcode, action byte) (*command, error) {
	rows := byOpcode[opcode]
	for _, row := range rows {
		if row.action < 0 || row.action == int(action) {
			return row, nil
		}
	}
	if len(rows) > 0 {
		return &command{}, badField(1)
	}
	return &command{}, badOpcode
}

// Serve executes one command. Unless wait is set, Serve never waits for the host. If the command
// would have to wait, Serve returns false as done, and the caller must call Serve again with wait
// set, from a goroutine that may wait. Serve is safe for concurrent use.
func (t *Target) Serve(r *Request, wait bool) (reply Reply, done bool) {
	c := &r.call
	*c = call{Request: r, t: t, wait: wait}
	if int(r.LUN) < len(t.units) {
		c.u = t.units[r.LUN]
	}
	err := c.serve()
	reply.Resized = c.resized
	switch err {
	case nil:
		reply.Used, reply.Filled = c.used, c.filled
	case errAgain:
		return Reply{}, false
	case errOverrun:
		reply.Overrun = true
	default:
		s := internal // for an error that is not a sense: a bug
		errors.As(err, &s)
		reply.Status, reply.Sense = CheckCondition, s.fixed()
	}
	return reply, true
}

// has reports whether the unit, which may be nil, supports a command.
func (u *unit) has(c *command) bool { return c.props&freeing == 0 || u.Unmap != UnmapNothing }

func (c *call) serve() error {
	cmd, err := find(c.CDB[0], c.CDB[1]&0x1f)
	if cmd.props&always == 0 && c.u == nil {
		return badLUN
	}
	if cmd.props&waiting != 0 && !c.wait {
		return errAgain
	}
	if cmd.props&sizing != 0 {
		// If the size of the store cannot be read, the unit keeps its size.
		c.resized, _ = c.u.rescan()
	}
	if cmd.props&always == 0 {
		if s, ok := c.u.attend(); ok {
			return s
		}
	}
	if err != nil {
		return err
	}
	if !c.u.has(cmd) {
		return badOpcode
	}
	control := len(cmd.usage) - 1
	if c.CDB[control]&0x04 != 0 { // NACA
		return badField(uint16(control))
	}
	if cmd.props&medium != 0 && c.u.stopped.Load() {
		return stopped
	}
	if cmd.props&writes != 0 && c.u.ReadOnly {
		return writeProtected
	}
	return cmd.do(c)
}
