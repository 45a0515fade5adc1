// Package serial implements a 16550A UART, such as a PC's COM1 (National Semiconductor PC16550D
// data sheet; Linux drivers/tty/serial/8250).
//
// Each byte from the guest is immediately passed to a writer, so the guest always finds the
// transmitter empty. Input from the host is stored in a receive FIFO of 16 bytes. When the FIFO is
// full or the guest is not reading input, the caller keeps the input, so no input is dropped and no
// buffer grows. Line speed, parity and break are not emulated: the divisor and line control
// registers only store their values.
//
// The interrupt is described to the guest as edge triggered, so its level never has to be lowered.
// The function raise is called for every new interrupt cause that the guest has enabled.
//
// A UART has one mutex. It holds no descriptor and starts no goroutine. The caller provides raise
// and the writer, which must not block.
package serial
