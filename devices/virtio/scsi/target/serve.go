package target

// command is a row of the table of commands.
type command struct {
	name   string
	opcode byte
	action int // the service action; -1: the opcode has none
	usage  string
	props  prop
	do     func(c *call) error
}

// prop is what holds for a command before it is looked at.
type prop int

const (
	always  prop = 1 << iota // no unit attention, and without a logical unit
	medium                   // needs a unit that is started
	writes                   // and not write protected
	waiting                  // waits for the host in most cases
	sizing                   // tells the size: it is asked for first
	freeing                  // only of a unit that can free blocks
)

// find returns the command that a CDB is, or why it is none.
func (t *Target) find(opcode, action byte) (*command, error) {
	rows := t.byOpcode[opcode]
	for _, c := range rows {
		if c.action < 0 || c.action == int(action) {
			return c, nil
		}
	}
	if len(rows) > 0 {
		return nil, badField(1)
	}
	return nil, badOpcode
}

// Serve does one command. Without wait it does only what takes no time; done is
// false if there was more to it, and the caller calls again with wait, from
// where waiting hurts nobody.
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
		reply.Status, reply.Sense = CheckCondition, senseOf(err).fixed()
	}
	return reply, true
}

// has says whether the unit offers a command.
func (u *unit) has(c *command) bool { return c.props&freeing == 0 || u.Unmap != UnmapNothing }

func (c *call) serve() error {
	cmd, err := c.t.find(c.CDB[0], c.CDB[1]&0x1f)
	if c.u == nil && (cmd == nil || cmd.props&always == 0) {
		return badLUN
	}
	if cmd != nil && cmd.props&waiting != 0 && !c.wait {
		return errAgain
	}
	if cmd != nil && cmd.props&sizing != 0 {
		// A store that cannot say its size keeps the one that it had.
		c.resized, _ = c.u.rescan()
	}
	if c.u != nil && (cmd == nil || cmd.props&always == 0) {
		if s, ok := c.u.attend(); ok {
			return s
		}
	}
	if err != nil {
		return err
	}
	if c.u != nil && !c.u.has(cmd) {
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
