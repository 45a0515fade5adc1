package main

// escape is the key that starts a command to minivmm instead of going to the guest: Ctrl-A, as in
// QEMU and kvmtool.
const escape = 0x01

// escaper finds commands in typed input.
type escaper struct{ armed bool }

// filter appends to out the bytes of typed that go to the guest, and calls command with the key of
// each command. A key that is not a command goes to the guest together with its Ctrl-A.
func (e *escaper) filter(out, typed []byte, command func(key byte)) []byte {
	for _, c := range typed {
		switch {
		case !e.armed && c == escape:
			e.armed = true
			continue
		case !e.armed:
			out = append(out, c)
		case c == escape:
			out = append(out, escape)
		case c == 'x' || c == 'h':
			command(c)
		default:
			out = append(out, escape, c)
		}
		e.armed = false
	}
	return out
}

const escapeHelp = "\r\n" +
	"Ctrl-A x       kill the machine\r\n" +
	"Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n" +
	"Ctrl-A h       print this help\r\n"
