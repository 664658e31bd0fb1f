package codec

import "zyklus/pipeline"

// KnownCurrency returns the number of decimal digits of a currency's minor unit (0, 2, 3 or 4) by its code of ISO 4217
// in upper case. ok is false for other text. See pipeline.CurrencyDigits for which codes are known.
func KnownCurrency(code string) (exponent int, ok bool) { return pipeline.CurrencyDigits(code) }
