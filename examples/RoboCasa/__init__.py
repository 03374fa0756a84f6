"""RoboCasa365: a Panda on a mobile base in kitchens."""
