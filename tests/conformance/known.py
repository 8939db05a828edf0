# SPDX-License-Identifier: PostgreSQL
"""What is known to differ through Tidemark, and why; printed with the results. A test that is not named here and
fails makes the job fail; so does one that is named here and passes, so that the list does not outlive its reasons.
"""

KNOWN = {
}
