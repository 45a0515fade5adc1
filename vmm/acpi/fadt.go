package acpi

import "encoding/binary"

// Offsets in the Fixed ACPI Description Table, table 5.33. All other fields are zero: a
// hardware-reduced platform does not use them.
const (
	fadtDSDT         = 40
	fadtProfile      = 45  // Preferred_PM_Profile
	fadtBootArch     = 109 // IAPC_BOOT_ARCH
	fadtFlags        = 112
	fadtResetReg     = 116
	fadtResetValue   = 128
	fadtMinor        = 131 // FADT Minor Version
	fadtXDSDT        = 140 // X_DSDT
	fadtSleepControl = 244 // SLEEP_CONTROL_REG
	fadtSleepStatus  = 256 // SLEEP_STATUS_REG
	fadtHypervisor   = 268 // Hypervisor Vendor Identity
	fadtSize         = 276
)

// IAPC_BOOT_ARCH, table 5.35. LEGACY_DEVICES, 8042 and a CMOS clock are absent.
const (
	bootVGANotPresent = 1 << 2
	bootCMOSNotThere  = 1 << 5 // CMOS RTC Not Present
)

// Fixed feature flags, table 5.34.
const (
	flagWBINVD      = 1 << 0
	flagPROCC1      = 1 << 2
	flagPowerButton = 1 << 4 // not a fixed feature: a control method device
	flagSleepButton = 1 << 5 // likewise; there is none
	flagFixRTC      = 1 << 6 // RTC wake status not in fixed registers
	flagResetReg    = 1 << 10
	flagHeadless    = 1 << 12
	flagHWReduced   = 1 << 20
)

// fadt returns the table in revision 6.3. Linux uses the reset register from revision 2 on and the
// sleep registers from revision 5 on.
func fadt(c Config, dsdtAddr uint64) []byte {
	le := binary.LittleEndian
	t := make([]byte, fadtSize)
	le.PutUint32(t[fadtDSDT:], uint32(dsdtAddr))
	t[fadtProfile] = 4 // enterprise server
	le.PutUint16(t[fadtBootArch:], bootVGANotPresent|bootCMOSNotThere)
	le.PutUint32(t[fadtFlags:], flagWBINVD|flagPROCC1|flagPowerButton|flagSleepButton|flagFixRTC|
		flagResetReg|flagHeadless|flagHWReduced)
	copy(t[fadtResetReg:], ioRegister(c.Reset))
	t[fadtResetValue] = c.ResetValue
	t[fadtMinor] = 3
	le.PutUint64(t[fadtXDSDT:], dsdtAddr)
	copy(t[fadtSleepControl:], ioRegister(c.SleepControl))
	copy(t[fadtSleepStatus:], ioRegister(c.SleepStatus))
	copy(t[fadtHypervisor:], "minivmm")
	return table("FACP", 6, t[headerSize:])
}

// ioRegister returns the Generic Address Structure (table 5.1) of an 8-bit port.
func ioRegister(port uint16) []byte {
	const systemIO, byteAccess = 1, 1
	return binary.LittleEndian.AppendUint64([]byte{systemIO, 8, 0, byteAccess}, uint64(port))
}
