package target

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// SenseBytes is the length of this target's fixed format sense data (SPC-4 §4.5.3).
const SenseBytes = 18

// Sense keys (SPC-4 §4.5.6).
const (
	keyNotReady       = 0x2
	keyMediumError    = 0x3
	keyHardwareError  = 0x4
	keyIllegalRequest = 0x5
	keyUnitAttention  = 0x6
	keyDataProtect    = 0x7
	keyAbortedCommand = 0xb
	keyMiscompare     = 0xe
)

// sense is a reason for CHECK CONDITION: sense key, additional sense code and qualifier.
type sense struct {
	key, asc, ascq byte
	pointer        byte   // what the field pointer refers to: sksCDB, sksData, or 0
	field          uint16 // the invalid byte
	hasInfo        bool
	info           uint64 // INFORMATION: an LBA
}

// What a field pointer refers to, as the bits SKSV and C/D (SPC-4 §4.5.2.4.2).
const (
	sksCDB  = 0xc0
	sksData = 0x80
)

func (s sense) Error() string {
	return fmt.Sprintf("sense key %Xh, %02Xh/%02Xh", s.key, s.asc, s.ascq)
}

// fixed returns the sense data in fixed format.
func (s sense) fixed() (p [SenseBytes]byte) {
	p[0] = 0x70
	if s.hasInfo && s.info <= math.MaxUint32 {
		p[0] |= 0x80 // VALID
		be.PutUint32(p[3:], uint32(s.info))
	}
	p[2] = s.key
	p[7] = SenseBytes - 8
	p[12], p[13] = s.asc, s.ascq
	p[15] = s.pointer
	be.PutUint16(p[16:], s.field)
	return p
}

// Sense values without a location.
var (
	badOpcode      = sense{key: keyIllegalRequest, asc: 0x20, pointer: sksCDB} // INVALID COMMAND OPERATION CODE
	badLUN         = sense{key: keyIllegalRequest, asc: 0x25}                  // LOGICAL UNIT NOT SUPPORTED
	badListLength  = sense{key: keyIllegalRequest, asc: 0x1a}                  // PARAMETER LIST LENGTH ERROR
	noSaving       = sense{key: keyIllegalRequest, asc: 0x39}                  // SAVING PARAMETERS NOT SUPPORTED
	writeProtected = sense{key: keyDataProtect, asc: 0x27}                     // WRITE PROTECTED
	noSpace        = sense{key: keyDataProtect, asc: 0x27, ascq: 7}            // SPACE ALLOCATION FAILED WRITE PROTECT
	stopped        = sense{key: keyNotReady, asc: 0x04, ascq: 2}               // LOGICAL UNIT NOT READY, INITIALIZING COMMAND REQUIRED
	internal       = sense{key: keyHardwareError, asc: 0x44}                   // INTERNAL TARGET FAILURE
	cancelled      = sense{key: keyAbortedCommand}                             // by task management: no initiator sees it
)

// badField returns INVALID FIELD IN CDB, and badParameter returns INVALID FIELD IN PARAMETER LIST;
// their argument at is the index of the invalid byte. outOfRange returns LOGICAL BLOCK ADDRESS OUT
// OF RANGE.
func badField(at uint16) sense {
	return sense{key: keyIllegalRequest, asc: 0x24, pointer: sksCDB, field: at}
}

func badParameter(at uint16) sense {
	return sense{key: keyIllegalRequest, asc: 0x26, pointer: sksData, field: at}
}

func outOfRange(lba uint64) sense {
	return sense{key: keyIllegalRequest, asc: 0x21, hasInfo: true, info: lba}
}

// hostError translates a host error at block lba into the sense that the guest gets. For a nil
// error it returns nil. Initiators treat the blocks before lba as transferred.
func hostError(err error, lba uint64, writing bool) error {
	var s sense
	switch {
	case err == nil, errors.As(err, &s), errors.Is(err, errAgain), errors.Is(err, errOverrun):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return noSpace
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EPERM):
		return writeProtected
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ENODATA), errors.Is(err, unix.EILSEQ), errors.Is(err, errShort):
		s = sense{key: keyMediumError, asc: 0x11, hasInfo: true, info: lba} // UNRECOVERED READ ERROR
		if writing {
			s.asc = 0x0c // WRITE ERROR
		}
		return s
	}
	return internal
}
