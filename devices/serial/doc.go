// Package serial is a 16550A UART, such as a PC's COM1 (National Semiconductor PC16550D data sheet;
// Linux drivers/tty/serial/8250).
//
// Bytes from the guest are written to a writer at once and one by one: the transmitter is always
// empty. Input from the host is stored in a receive FIFO of 16 bytes. When the FIFO is full or the
// guest is not listening, the caller keeps the input: nothing is dropped and no buffer grows. There
// is no line speed, no parity and no break; the divisor and line control registers only store their
// value.
//
// The interrupt is described to the guest as edge triggered, so there is no level to lower: raise
// is called for every new cause that the guest has enabled.
//
// A UART has one mutex. It holds no descriptor and starts no goroutine. raise and the writer belong
// to the caller and must not block.
package serial
