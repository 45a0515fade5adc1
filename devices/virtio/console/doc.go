// Package console is the virtio console device (virtio 1.2 §5.3), as named byte
// streams between programs of the guest and this process: [Port]. It always
// wants VIRTIO_CONSOLE_F_MULTIPORT and is served in this process. It is no
// terminal: it has no size, no emergency write, and no port is an hvc console.
//
// Ports have numbers from 1. Linux (drivers/char/virtio_console.c) shows port N
// as /dev/vportDpN and its name in /sys/class/virtio-ports/vportDpN/name, which
// udev makes /dev/virtio-ports/NAME. Port 0 has queues, as the specification
// wants it, and is never added: a driver without multiple ports would make it a
// console, and what such a driver writes there is swallowed. A port is told to
// be open before it is told its name, so that a program that finds it by name
// finds a host there; one that opens it by number may read an end of file at
// first, and should write first, which waits.
//
// # Back pressure
//
// Nothing is dropped and nothing grows. What the guest writes is taken as fast
// as Conn takes it: then the ring fills, and the guest's writer waits. Conn is
// read only while a program in the guest has the port open, a piece at a time:
// until then, and when there is no receive buffer, the host waits. QEMU does the
// same. What was read and not delivered when the guest closes the port or resets
// the device goes to whoever opens the port next. What a program wrote before it
// closed the port still goes to Conn. One port that waits holds up no other.
//
// The control queues cannot be held up. What the device has to say is kept as
// what is due for each port and not as a list of messages, so a guest that asks
// and gives no buffers for answers costs nothing.
//
// # When the host goes
//
// An end or an error of Conn.Read, after what was read is delivered, or an error
// of Conn.Write hangs the port up for good: the guest is told that the port is
// closed, its readers see an end of file, and after an error of Write the device
// swallows what comes. The device itself goes on.
//
// # Concurrency
//
// Activate, Reset and Close are called one at a time. Each Port has a goroutine
// that reads Conn and one that writes it, from New to Close. They hand over one
// buffer each, of 32 KiB, made when it is first needed. Each enabled queue has a
// goroutine from Activate to Reset, which never calls Conn: so Reset waits for no
// host, and the bytes that it interrupts are not lost. The guest may think that
// up to 32 KiB are written that Close then finds unwritten: a protocol over a
// port that cares acknowledges.
package console
